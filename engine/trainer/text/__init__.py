"""Between text and token ids.

``tokenizer``      the tokenizer of a checkpoint folder, or one token a character
``chat_template``  messages to segments by the checkpoint's own template
``encoding``       segments to ids: the same for a training row and a question
``stop_tokens``    where a generated answer ends
"""
