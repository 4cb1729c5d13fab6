unit_test(arch arch arch m)
unit_test(arch parts arch m)
