unit_test(node actor node)
unit_test(node runtime_dir node)
unit_test(node pool node)
