unit_test(store safetensors store)
unit_test(store manifest store)
unit_test(store store store)
