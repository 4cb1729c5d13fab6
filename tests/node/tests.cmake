unit_test(node sensors node)
