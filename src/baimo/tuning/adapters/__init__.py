"""Adapters: what tuning leaves behind, as folders that other tools read too.

The noun is a folder: a PEFT adapter, whole weights or a prompt, with tokenizer, chat template, lineage and a model
card. Invariant: nothing here needs torch; merging is arithmetic on files.
"""
