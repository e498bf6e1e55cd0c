"""The judges of IFEval's 25 types of instruction: pure functions of a response and what was asked of it."""
