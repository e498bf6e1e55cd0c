"""TinyWorld: twelve towns round a lake, generated. Stories to learn from, chats, tasks, and the floor of the loss."""
