"""The golden cases: name -> (run-spec or change to a good one, overrides). Shared by the test and by the maker.

``python tests/runspec/cases.py`` writes tests/runspec/golden.txt again; look at the difference before you commit it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

GOLDEN = Path(__file__).with_name("golden.txt")

GOOD = """\
# yaml-language-server: $schema=../schemas/runspec.schema.json
version: 1
run_version: good_v1
model:
  id: runspec/tiny
  init: random
  tokenizer: chars
  config: {model_type: gemma, hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1,
           num_attention_heads: 2, num_key_value_heads: 1, head_dim: 8, max_position_embeddings: 256}
dataset: quickstart-reasoning
eval_set: evalsets/items.jsonl
steps:
  - {id: dataset, uses: build_dataset}
  - {id: smoke, uses: smoke_run}
  - id: train
    uses: train_sft
    with:
      num_train_steps: 10
      seq_len: 128
  - {id: predict, uses: generate}
  - {id: score, uses: score}
  - {id: summary, uses: result_summary}
evidence:
  dir: submission_runs/good_v1
package: {name: good}
"""
MODEL = GOOD[GOOD.index("model:") : GOOD.index("dataset:")]
Change = tuple[str, str]

# name -> the changes (old text, new text) that make the good spec a bad one
CHANGES: dict[str, list[Change]] = {
    "unknown_key_top": [("evidence:", "evidance:")],
    "unknown_key_top_no_idea": [("version: 1\n", "version: 1\nzzz: 3\n")],
    "unknown_key_model": [("init: random", "initt: random")],
    "unknown_key_config": [("head_dim: 8", "head_dimm: 8")],
    "unknown_key_step": [("uses: smoke_run", "uses: smoke_run, wiht: {}")],
    "unknown_key_with": [("num_train_steps: 10", "num_train_steps: 10\n      seq_length: 64")],
    "unknown_key_reduce": [("uses: smoke_run", "uses: smoke_run, with: {reduce: {learning_rate: 1}}")],
    "unknown_key_no_arguments": [("uses: result_summary", "uses: result_summary, with: {digits: 4}")],
    "unknown_key_package": [("{name: good}", "{name: good, folder: out}")],
    "home_of_learning_rate": [("version: 1\n", "version: 1\nlearning_rate: 1.0e-5\n")],
    "home_of_seq_len_beside_uses": [("uses: smoke_run}", "uses: smoke_run, num_items: 3}")],
    "home_of_device_in_model": [("init: random", "init: random\n  device: cpu")],
    "home_of_hidden_size": [("init: random", "init: random\n  hidden_size: 3")],
    "home_of_needs_in_with": [("num_train_steps: 10", "num_train_steps: 10\n      needs: [dataset]")],
    "epochs_are_no_steps": [("num_train_steps: 10", "num_train_steps: 10\n      num_train_epochs: 3")],
    "key_of_another_tool": [("num_train_steps: 10", "num_train_steps: 10\n      fp16: true")],
    "share_of_warm_up": [("num_train_steps: 10", "num_train_steps: 10\n      warmup_ratio: 0.1")],
    "thousands_in_braces": [("uses: smoke_run}", "uses: smoke_run, with: {num_train_steps: 2,000}}")],
    "thousands": [("num_train_steps: 10", "num_train_steps: 2,000")],
    "cyrillic_letter_in_a_key": [("version: 1\n", "version: 1\nd\u0435vice: cpu\n")],
    "cyrillic_letter_in_a_value": [("version: 1\n", "version: 1\ndevice: \u0441pu\n")],
    "a_word_in_another_script": [
        ("version: 1\n", "version: 1\n\u0443\u0441\u0442\u0440\u043e\u0439\u0441\u0442\u0432\u043e: cpu\n")
    ],
    "unknown_key_of_many": [("num_train_steps: 10", "num_train_steps: 10\n      zzqy: 3")],
    "no_break_space_after_the_colon": [("run_version: ", "run_version:\u00a0")],
    "no_break_space_indents": [("  id: runspec/tiny", " \u00a0id: runspec/tiny")],
    "no_break_space_at_the_end": [("seq_len: 128", "seq_len: 128\u00a0")],
    "no_break_space_after_the_dash": [("  - id: train", "  -\u00a0id: train")],
    "ideographic_space_indents": [("  init: random", "\u3000init: random")],
    "zero_width_in_a_key": [("version: 1\n", "version: 1\nno\u200btes: a\n")],
    "zero_width_after_a_word": [("uses: train_sft", "uses: train_sft\u200b")],
    "zero_width_in_a_path": [("evalsets/items.jsonl", "'evalsets/it\u200bems.jsonl'")],
    "bidirectional_mark": [("init: random", "init: \u202arandom")],
    "full_width_colon": [("  init: random", "  init\uff1arandom")],
    "full_width_colon_in_an_argument": [("      seq_len: 128", "      seq_len\uff1a128")],
    "full_width_comma": [("hidden_size: 16, ", "hidden_size: 16\uff0c ")],
    "full_width_bracket": [("{id: score, uses: score}", "{id: score, uses: score\uff5d")],
    "full_width_digit": [("seq_len: 128", "seq_len: \uff11\uff12\uff18")],
    "full_width_number_sign": [("version: 1\n", "version: 1\n\uff03 a: comment\n")],
    "curly_quotes": [("version: 1\n", "version: 1\nnotes: \u201ca: b\u201d\n")],
    "en_dash_for_a_list": [("  - id: train", "  \u2013 id: train")],
    "name_too_long": [("run_version: good_v1", "run_version: " + "a" * 300)],
    "name_of_a_device": [("run_version: good_v1", "run_version: Con.v1")],
    "name_with_a_last_dot": [("{name: good}", "{name: good.}")],
    "folder_with_a_colon": [("dir: submission_runs/good_v1", "dir: 'submission_runs/12:30'")],
    "folder_too_long": [("dir: submission_runs/good_v1", "dir: submission_runs/" + "b" * 300)],
    "files_that_are_one": [
        (
            "  dir: submission",
            "  files: [run_manifest.json, eval_summary.json, kaggle_output_log.txt, A.md, a.md]\n  dir: submission",
        )
    ],
    "minutes": [("seq_len: 128", "seq_len: 1:30")],
    "profile_beyond_the_end": [("num_train_steps: 10", "num_train_steps: 10\n      profile: {start: 20, steps: 3}")],
    "profile_window_beyond_the_end": [
        ("num_train_steps: 10", "num_train_steps: 10\n      profile: {start: 9, steps: 3}")
    ],
    "formats_of_no_weights": [
        ("num_train_steps: 10", "num_train_steps: 10\n      method: lora\n      export_formats: [flax_msgpack]")
    ],
    "fsdp_above_the_batch": [
        ("num_train_steps: 10", "num_train_steps: 10\n      global_batch_size: 4\n      mesh: {fsdp: 8}")
    ],
    "evidence_without_a_file": [("  dir: submission", "  files: [run_manifest.json, notes.md]\n  dir: submission")],
    "a_very_long_line": [("id: runspec/tiny", "id: '" + "x" * 4000 + " {'")],
    "report_to_nobody": [("num_train_steps: 10", "num_train_steps: 10\n      report_to: [tensorbord]")],
    "missing_version": [("version: 1\n", "")],
    "missing_model": [(MODEL, "")],
    "kaggle_without_a_version": [(MODEL, "model: {kaggle: google/gemma/transformers/2b}\n")],
    "kaggle_of_two_parts": [(MODEL, "model: {kaggle: google/gemma}\n")],
    "kaggle_beside_the_hub": [
        (MODEL, "model: {kaggle: google/gemma/transformers/2b/3, revision: flax, path: models/gemma}\n")
    ],
    "neither_id_nor_kaggle": [(MODEL, "model: {revision: flax}\n")],
    "missing_steps": [(GOOD[GOOD.index("steps:") : GOOD.index("evidence:")], "")],
    "missing_train_steps": [("      num_train_steps: 10\n", "")],
    "missing_id": [("{id: smoke, uses", "{uses")],
    "missing_config_key": [("head_dim: 8, ", "")],
    "type_text_for_integer": [("num_train_steps: 10", "num_train_steps: ten")],
    "type_quoted_integer": [("num_train_steps: 10", 'num_train_steps: "10"')],
    "type_thousands": [("num_train_steps: 10", "num_train_steps: 1,000")],
    "type_decimal_comma": [("seq_len: 128", "seq_len: 128\n      learning_rate: 0,001")],
    "type_power": [("seq_len: 128", "seq_len: 128\n      learning_rate: 10^-5")],
    "type_kilo": [("num_train_steps: 10", "num_train_steps: 2k")],
    "no_value": [("seq_len: 128", "seq_len:")],
    "no_space_after_colon": [("uses: smoke_run", "uses: smoke_run, with: {num_items:3}")],
    "rank_beside_full": [("seq_len: 128", "seq_len: 128\n      lora_rank: 8")],
    "mesh_unknown_axis": [("seq_len: 128", "seq_len: 128\n      mesh: {fsdp: 4, tensor: 2}")],
    "mesh_of_nothing": [("seq_len: 128", "seq_len: 128\n      mesh: {fsdp: 0, tp: two}")],
    "accumulation_beside_a_global_batch": [
        ("seq_len: 128", "seq_len: 128\n      global_batch_size: 64\n      grad_accum_steps: 4")
    ],
    "cluster_unknown": [("seq_len: 128", "seq_len: 128\n      cluster: slurm")],
    "in_backward_asks": [("seq_len: 128", "seq_len: 128\n      update: in_backward\n      grad_accum_steps: 4")],
    "keep_best_without_eval": [("seq_len: 128", "seq_len: 128\n      keep_best: 1")],
    "keep_best_without_eval_at_saves": [
        (
            "seq_len: 128",
            "seq_len: 128\n      keep_best: 1\n      eval_rows: 4\n      eval_every_steps: 10\n      save_every_steps: 25",
        )
    ],
    "keep_every_between_saves": [("seq_len: 128", "seq_len: 128\n      keep_every_steps: 110")],
    "export_best_without_keeping": [("seq_len: 128", "seq_len: 128\n      export: best")],
    "other_devices_unknown": [("seq_len: 128", "seq_len: 128\n      on_other_devices: go_on")],
    "unknown_lora_target": [("seq_len: 128", "seq_len: 128\n      method: lora\n      lora_targets: [q_prj]")],
    "called_otherwise": [("num_train_steps: 10", "max_steps: 10")],
    "top_k_beside_greedy": [("uses: generate}", "uses: generate, with: {top_k: 40, top_p: 0.9}}")],
    "sampling_beyond_limits": [("uses: generate}", "uses: generate, with: {temperature: -1, top_p: 0, stop: ['']}}")],
    "temperature_unusual": [("uses: generate}", "uses: generate, with: {temperature: 20, top_k: 40}}")],
    "adam_beside_adafactor": [("seq_len: 128", "seq_len: 128\n      optimizer: adafactor\n      adam_b1: 0.8")],
    "needs_two_of_one": [
        (
            "{id: predict, uses: generate}",
            "{id: more, uses: train_sft, with: {num_train_steps: 1, seq_len: 64}}\n"
            "  - {id: predict, uses: generate, needs: [train, more]}",
        )
    ],
    "path_address": [("evalsets/items.jsonl", "https://example.org/items.jsonl")],
    "path_backslash": [("evalsets/items.jsonl", "evalsets\\items.jsonl")],
    "evidence_holds_the_eval_set": [("dir: submission_runs/good_v1", "dir: evalsets")],
    "package_in_evidence": [("{name: good}", "{name: good, dir: submission_runs/good_v1/zip}")],
    "open_quote": [("run_version: good_v1", "run_version: 'good_v1")],
    "quote_inside": [("version: 1\n", "version: 1\nnotes: 'it's'\n")],
    "text_without_key": [("version: 1\n", "version: 1\nnotes\n")],
    "indented_below_a_value": [("run_version: good_v1", "run_version: good_v1\n  notes: x")],
    "unaligned": [("      seq_len: 128", "     seq_len: 128")],
    "reserved_character": [("run_version: good_v1", "run_version: @good")],
    "bad_escape": [("run_version: good_v1", 'run_version: "good\\q"')],
    "alias_of_nothing": [("run_version: good_v1", "run_version: *good")],
    "bracket_too_many": [("{name: good}", "{name: good}}")],
    "number_as_key": [("version: 1\n", "version: 1\n7: x\n")],
    "too_large_an_integer": [("num_train_steps: 10", "num_train_steps: 99999999999999999999")],
    "type_underscore": [("num_train_steps: 10", "num_train_steps: 1_000")],
    "type_float_for_integer": [("num_train_steps: 10", "num_train_steps: 10.5")],
    "type_boolean_for_integer": [("num_train_steps: 10", "num_train_steps: true")],
    "type_no_for_boolean": [("num_train_steps: 10", "num_train_steps: 10\n      packing: no")],
    "type_quoted_boolean": [("num_train_steps: 10", 'num_train_steps: 10\n      packing: "true"')],
    "type_number_for_text": [("run_version: good_v1", "run_version: 3")],
    "type_mapping_for_list": [("steps:\n  - {id: dataset", "steps:\n    first: {id: dataset")],
    "type_word_for_list": [("uses: generate", "uses: generate, needs: train")],
    "type_list_for_mapping": [("package: {name: good}", "package: [good]")],
    "type_null_for_number": [("num_train_steps: 10", "num_train_steps: null")],
    "enum_device": [("version: 1\n", "version: 1\ndevice: gpus\n")],
    "enum_allocator": [("version: 1\n", "version: 1\nallocator: {kind: platfrom}\n")],
    "maximum_fraction": [("version: 1\n", "version: 1\nallocator: {fraction: 90}\n")],
    "enum_optimizer": [("num_train_steps: 10", "num_train_steps: 10\n      optimizer: adam")],
    "enum_family": [("model_type: gemma", "model_type: llama")],
    "window_of_a_family_without": [("head_dim: 8,", "head_dim: 8, sliding_window: 64,")],
    "cap_of_a_family_without": [
        ("model_type: gemma", "model_type: gemma3_text"),
        ("head_dim: 8,", "head_dim: 8, final_logit_softcapping: 30,"),
    ],
    "unknown_layer_type": [
        ("model_type: gemma", "model_type: gemma2"),
        ("head_dim: 8,", "head_dim: 8, layer_types: [sliding],"),
    ],
    "version_two": [("version: 1\n", "version: 2\n")],
    "range_zero_steps": [("num_train_steps: 10", "num_train_steps: 0")],
    "range_negative_rate": [("num_train_steps: 10", "num_train_steps: 10\n      learning_rate: -1.0e-5")],
    "range_beta": [("num_train_steps: 10", "num_train_steps: 10\n      adam_b1: 1.0")],
    "range_seq_len": [("seq_len: 128", "seq_len: 4")],
    "empty_text": [("eval_set: evalsets/items.jsonl", 'eval_set: ""')],
    "empty_steps": [(GOOD[GOOD.index("steps:") : GOOD.index("evidence:")], "steps: []\n")],
    "pattern_run_version": [("run_version: good_v1", "run_version: ../good")],
    "pattern_model_id": [("id: runspec/tiny", "id: a/b/c")],
    "twice_in_files": [("good_v1\npackage", "good_v1\n  files: [run_manifest.json, run_manifest.json]\npackage")],
    "unknown_uses": [("uses: train_sft", "uses: train_stf")],
    "two_ids": [("{id: score, uses", "{id: predict, uses")],
    "needs_unknown": [("uses: generate", "uses: generate, needs: [trian]")],
    "needs_later": [("uses: generate", "uses: generate, needs: [score]")],
    "needs_itself": [("uses: generate", "uses: generate, needs: [predict]")],
    "input_nothing_makes": [("  - {id: dataset, uses: build_dataset}\n", "")],
    "smoke_proves_nothing": [
        ("  - {id: smoke, uses: smoke_run}\n", ""),
        ("  - {id: score, uses: score}", "  - {id: smoke, uses: smoke_run}\n  - {id: score, uses: score}"),
    ],
    "dataset_unknown": [("dataset: quickstart-reasoning", "dataset: quickstart-reasonning")],
    "dataset_empty": [("dataset: quickstart-reasoning", "dataset: {format: trace}")],
    "dataset_revision_without_hub": [
        ("dataset: quickstart-reasoning", "dataset: {path: evalsets/items.jsonl, revision: x}")
    ],
    "dataset_field": [
        (
            "dataset: quickstart-reasoning",
            "dataset: {path: evalsets/items.jsonl, format: prompt_completion, fields: {promt: q}}",
        )
    ],
    "config_for_pretrained": [("  init: random\n", "")],
    "random_without_config": [(GOOD[GOOD.index("  config:") : GOOD.index("dataset:")], "")],
    "revision_for_random": [("init: random", "init: random\n  revision: flax")],
    "heads_do_not_divide": [
        ("num_attention_heads: 2, num_key_value_heads: 1", "num_attention_heads: 3, num_key_value_heads: 2")
    ],
    "head_dim_odd": [("head_dim: 8", "head_dim: 7")],
    "too_long_for_the_model": [("seq_len: 128", "seq_len: 512")],
    "warmup_too_long": [("seq_len: 128", "seq_len: 128\n      warmup_steps: 10")],
    "metric_unknown": [("uses: score}", "uses: score, with: {metric: answer_corectness@v1}}")],
    "metric_pattern": [("uses: score}", "uses: score, with: {metric: exact}}")],
    "path_outside": [("evalsets/items.jsonl", "../items.jsonl")],
    "path_absolute": [("evalsets/items.jsonl", "/srv/items.jsonl")],
    "path_no_whole_model": [(GOOD[GOOD.index("  init:") : GOOD.index("dataset:")], "  path: evalsets\n")],
    "path_no_model": [(GOOD[GOOD.index("  init:") : GOOD.index("dataset:")], "  path: models/mine\n")],
    "path_missing": [("evalsets/items.jsonl", "evalsets/itmes.jsonl")],
    "path_folder": [("evalsets/items.jsonl", "evalsets")],
    "evidence_is_the_project": [("dir: submission_runs/good_v1", "dir: .")],
    "duplicate_key": [("version: 1\n", "version: 1\nversion: 1\n")],
    "tab": [("      seq_len: 128", "\tseq_len: 128")],
    "bad_colon": [("run_version: good_v1", "run_version: good: v1")],
    "open_bracket": [("{id: score, uses: score}", "{id: score, uses: score")],
    "tag": [("good_v1\nmodel", "!!python/object:os.system good_v1\nmodel")],
    "nan": [("num_train_steps: 10", "num_train_steps: 10\n      learning_rate: .nan")],
    "too_large": [("num_train_steps: 10", "num_train_steps: 10\n      learning_rate: 1e999")],
    "merge": [("num_train_steps: 10", "num_train_steps: 10\n      <<: {seq_len: 128}")],
    "list_as_key": [("num_train_steps: 10", "num_train_steps: 10\n      [a, b]: 128")],
    "two_documents": [("package:", "---\npackage:")],
    "warning_rate": [("num_train_steps: 10", "num_train_steps: 10\n      learning_rate: 1.0e-8")],
    "warning_high_rate": [("num_train_steps: 10", "num_train_steps: 10\n      learning_rate: 3")],
    "warning_modeline": [("# yaml-language-server: $schema=../schemas/runspec.schema.json\n", "")],
    "several_at_once": [
        ("init: random", "initt: random"),
        ("seq_len: 128", "seq_len: x"),
        ("uses: score}", "uses: scroe}"),
    ],
}
# name -> the whole file, as bytes
FILES: dict[str, bytes] = {
    "file_empty": b"",
    "file_of_comments": b"# nothing\n",
    "file_binary": b"\x89PNG\r\n\x1a\n\0\0",
    "file_not_utf8": b"version: 1\nnotes: caf\xe9\n",
    "file_is_a_list": b"- version: 1\n",
    "file_too_deep": b"a: " + b"[" * 70 + b"]" * 70 + b"\n",
    "file_of_aliases": b"a: &a [1]\nb: [" + b"*a, " * 40 + b"*a]\n",
    "file_too_large": b"# " + b"x" * (1 << 20) + b"\n",
}
OVERRIDES: dict[str, list[str]] = {
    "override_cyrillic_letter": ["tr\u0430in.seed=4"],
    "override_no_equals": ["train.seq_len"],
    "override_unknown_step": ["trian.seq_len=64"],
    "override_unknown_argument": ["train.seq_length=64"],
    "override_unknown_section_key": ["model.revison=x"],
    "override_wrong_type": ["train.seq_len=long"],
    "override_out_of_range": ["train.num_train_steps=0"],
    "override_not_yaml": ["train.seq_len=[1"],
    "override_enum": ["device=quantum"],
}


def render_all() -> str:
    """Every case's name and what a person would read."""
    return "".join(f"##### {name}\n{text}\n\n" for name, text in rendered().items())


def rendered() -> dict[str, str]:
    """Name -> rendered findings."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "project"
        for name in (".runspec", "runspecs", "evalsets"):
            (root / name).mkdir(parents=True)
        (root / "evalsets" / "items.jsonl").write_text("{}\n")
        path = root / "runspecs" / "spec.yaml"
        for name, changes in CHANGES.items():
            text = GOOD
            for old, new in changes:
                assert old in text, (name, old)
                text = text.replace(old, new, 1)
            found[name] = _findings(path, text.encode(), [], root)
        for name, data in FILES.items():
            found[name] = _findings(path, data, [], root)
        for name, overrides in OVERRIDES.items():
            found[name] = _findings(path, GOOD.encode(), overrides, root)
        path.unlink()
        found["file_missing"] = _findings(path, None, [], root)
        (root / "runspecs" / "specs.yaml").write_text("version: 1\n")
        found["file_missing_near"] = _findings(path, None, [], root)
        found["file_is_a_folder"] = _findings(root / "runspecs", None, [], root)
    return found


def _findings(path: Path, data: bytes | None, overrides: list[str], root: Path) -> str:
    from engine.data import BUILDERS
    from engine.errors import render
    from engine.runspec import check_spec
    from engine.scoring import METRICS
    from engine.steps.registry import HANDLERS

    if data is not None:
        path.write_bytes(data)
    findings = check_spec(path, overrides, kinds=HANDLERS, builders=BUILDERS, metrics=METRICS)
    text = "\n".join(render(finding) for finding in findings)
    return text.replace(f"{root}/", "").replace(str(root), "PROJECT")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent.parent))
    GOLDEN.write_text(render_all(), encoding="utf-8")
