unit_test(peers peers node)
unit_test(peers book node)
unit_test(peers dialback node)
