"""Between text and token ids.

``segment``        a piece of a row's text: trained or not, and how control tokens in it are read
``tokenizer``      the tokenizer of a checkpoint folder, or one token a character
``chat_template``  messages to segments by the checkpoint's own template
``encoding``       segments to ids: the same for a training row and a prompt
``stop_tokens``    where a generated answer ends
"""
