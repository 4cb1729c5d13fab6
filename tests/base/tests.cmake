unit_test(base json base)
