paceline_test(test_model_shape model m)
paceline_test(test_planner plan m)
paceline_test(test_plan_cost plan stage m)
paceline_test(test_replan plan m)
