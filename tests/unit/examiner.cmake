paceline_test(test_examiner schedule)
