"""The rate to use: `find`, range tests and what they suggest."""
