unit_test(gateway stops gateway)
unit_test(gateway tool_calls gateway)
unit_test(gateway openai gateway)
unit_test(gateway shown gateway)
