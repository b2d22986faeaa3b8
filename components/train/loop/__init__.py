"""loop: the model, the gradients of a step, processes that share it, and the state that a killed job resumes from."""
