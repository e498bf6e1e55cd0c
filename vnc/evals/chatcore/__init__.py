"""ChatCORE: what a chat model answers right, in one number, from questions with letters, sums, code and spelling."""
