"""The rate to use: range tests and what they suggest."""
