unit_test(node actor node)
unit_test(node runtime_dir node)
unit_test(node pool node)
unit_test(node net node)
