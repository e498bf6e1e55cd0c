"""IFEval (Zhou et al., arXiv 2311.07911): is what was asked of a response's form in it? No model judges, only rules."""
