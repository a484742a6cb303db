"""A small language model, all the way: a request in words becomes a Kubernetes manifest.

Under a million parameters, with a tokenizer of its own, trained where it is used in seconds to a
minute. Chapters 7 and 8 train, tune, judge and serve it; the same code runs on a GPU, and takes a
real model in its place.

The way through, each step a module::

    from mlk8s.lm import judging, model, task, training

    small = model.create(seed=0)                                   # network and tokenizer
    training.pretrain(small, task.corpus(8000))                    # text that looks like YAML
    small.save("base")                                             # a Hugging Face folder
    run = training.finetune(small, task.examples(6000), method="lora")
    found = judging.judge(run.model, task.examples(64, split="held out"), judging.Schemas())
    run.model.merged().save("tuned")                               # an ordinary folder again

What other code builds on:

* A model's folder is one in Hugging Face's format: ``config.json``, ``model.safetensors``, the
  tokenizer's files. :func:`model.load` reads it, and so does every tool that reads such folders.
* :func:`task.prompt` makes the one form in which a request is put to the model. The answer follows
  it directly, and ends with the tokenizer's end-of-text token (:data:`task.STOP`).
* ``model.create(seed=0)``, ``model.load(folder, device="cpu")`` give a :class:`model.Model` with
  ``network``, ``tokenizer``, ``parameters``, ``save(folder)``, ``merged()``.
* ``training.pretrain(model, texts, plan)`` and ``training.finetune(model, examples, plan,
  method="lora" | "full")`` take ``device``, ``folder`` and ``every`` for checkpoints, and a
  callback ``report``; they give a :class:`training.Run` with ``model``, ``losses``,
  ``tokens_per_s``.
* ``generation.generate(model, prompts)`` continues prompts greedily.
* ``judging.judge(model, examples, judge)`` gives a :class:`judging.Report`; a judge takes a
  manifest and gives why it refuses it, or ``None``.
* ``memory`` and ``flops`` say what training and serving cost, on paper and measured.
"""
