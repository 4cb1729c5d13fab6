unit_test(node actor node)
