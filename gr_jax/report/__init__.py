"""Tables, figures and the HTML report. No JAX."""
