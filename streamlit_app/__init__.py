"""The app: chat, runs, evals, scaling and plan pages in a browser. Files below the runs folder are only ever read."""
