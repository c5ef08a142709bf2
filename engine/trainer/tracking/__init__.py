"""What is measured beside the loss, and where it is sent.

``tracker``     all of it, as the train loop uses it
``throughput``  tokens a second, MFU, time waited for data, memory
``flops``       operations a token, counted from the configuration
``profiler``    a trace of some train steps
``loggers``     TensorBoard, wandb, MLflow, trackio
"""
