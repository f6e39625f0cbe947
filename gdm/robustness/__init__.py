"""Attacks on classifiers, and purifiers of what they are given. They know the contract and no family."""
