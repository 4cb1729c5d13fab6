unit_test(store safetensors store)
