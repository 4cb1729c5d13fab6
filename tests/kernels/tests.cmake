unit_test(kernels tensor kernels)
unit_test(kernels math kernels)
unit_test(kernels kernels kernels)
unit_test(kernels vectors kernels)
