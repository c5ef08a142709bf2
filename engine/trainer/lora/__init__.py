"""LoRA: small trained matrices beside frozen weights.

``adapters``        the modules, and merging them into the weights
``adapter_config``  adapter_config.json, in peft's words
``adapter_files``   adapters read and written in peft's layout
"""
