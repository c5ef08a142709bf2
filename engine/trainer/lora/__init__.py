"""LoRA: small trained matrices beside frozen weights.

``adapters``        the modules, and merging them into the weights
``adapter_config``  adapter_config.json, with PEFT's keys
``adapter_files``   reading and writing adapters in PEFT's layout
"""
