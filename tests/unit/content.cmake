paceline_test(test_content_file stage)
paceline_test(test_content_fetch stage)
paceline_test(test_content_plan stage)
paceline_test(test_content stage schedule)
