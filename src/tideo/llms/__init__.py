"""Language models that write: any server that speaks OpenAI's protocol."""
