"""Models of labels given examples: classifiers, and naive Bayes, which models the examples too."""
