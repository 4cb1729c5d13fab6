unit_test(base json base)
unit_test(base log base)
unit_test(base prom base)
