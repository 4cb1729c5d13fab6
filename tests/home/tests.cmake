unit_test(home runtime_dir node)
unit_test(home keys node)
unit_test(home publishers node)
