"""The paper's studies and figures."""
