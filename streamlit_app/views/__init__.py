"""One page in each file: a script that Streamlit runs anew at every interaction."""
