"""Language models that write: a server that speaks OpenAI's protocol, or vLLM in this process."""
