"""Stands for ruamel.yaml.error: the class that the reader of YAML raises."""

from engine.evidence.standalone.stand_ins.yaml_error import YAMLError

__all__ = ["YAMLError"]
