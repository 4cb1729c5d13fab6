unit_test(arch arch arch m)
