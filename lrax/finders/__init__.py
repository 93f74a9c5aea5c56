"""The rate to use: `find`, range tests and what they suggest; and what went wrong with a run."""
