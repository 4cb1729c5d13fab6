unit_test(store safetensors store)
unit_test(store manifest store)
unit_test(store store store)
unit_test(store hf_config store m)
