"""Training: one loop (`engine`), one module per stage (`pretrain`, `extract`, `finetune`)."""
