"""Very small, unmodified models of transformers, with data for each.

Each is a `Case`: a model, items for a dataset, and a function that makes a batch of them. None has dropout, so in
evaluation mode the outputs depend only on the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import (
    DeformableDetrConfig,
    DeformableDetrForObjectDetection,
    DetrConfig,
    DetrForObjectDetection,
    FlavaConfig,
    FlavaForPreTraining,
    MixtralConfig,
    MixtralForCausalLM,
    ResNetConfig,
    Wav2Vec2Config,
    Wav2Vec2ForPreTraining,
    default_data_collator,
)

_NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@dataclass(frozen=True)
class Case:
    """A model to train.

    Attributes:
        make: makes a new model, the same each time.
        items: makes a number of samples.
        keys: key that ``capture="*loss*"`` reports → function that reads its value from an output.
        budget: key → weight of each part of the model's loss; empty if the outputs lack some part.
        arguments: further training arguments.
        collate: samples → batch.
    """

    make: Callable[[], nn.Module]
    items: Callable[[int], list[dict[str, Any]]]
    keys: dict[str, Callable[[Any], Any]]
    budget: dict[str, float]
    arguments: dict[str, Any]
    collate: Callable[[list[Any]], dict[str, Any]] = default_data_collator


def wav2vec2() -> nn.Module:
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        conv_dim=(8, 8), conv_kernel=(10, 3), conv_stride=(5, 2), num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2, num_codevectors_per_group=8, num_codevector_groups=2, codevector_dim=8,
        proj_codevector_dim=8, feat_quantizer_dropout=0.0, diversity_loss_weight=0.1, hidden_dropout=0.0,
        attention_dropout=0.0, activation_dropout=0.0, feat_proj_dropout=0.0, layerdrop=0.0,
    )  # fmt: skip
    return Wav2Vec2ForPreTraining(config)


def wav2vec2_items(count: int) -> list[dict[str, Any]]:
    torch.manual_seed(1)
    frames = 19  # the two convolutions make them from 200 samples
    # Distractors are indices into the flattened batch. Those of the first row exist in every batch.
    return [
        {
            "input_values": torch.randn(200),
            "mask_time_indices": torch.rand(frames) < 0.5,
            "sampled_negative_indices": torch.randint(0, frames, (frames, 3)),
        }
        for _ in range(count)
    ]


def detr() -> nn.Module:
    torch.manual_seed(0)
    backbone = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic", out_features=["stage2"]
    )
    config = DetrConfig(
        use_timm_backbone=False, backbone=None, use_pretrained_backbone=False, backbone_config=backbone,
        num_queries=5, num_labels=3, d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=16,
        decoder_ffn_dim=16, encoder_attention_heads=2, decoder_attention_heads=2, dropout=0.0,
        bbox_loss_coefficient=5, giou_loss_coefficient=2,
    )  # fmt: skip
    return DetrForObjectDetection(config)


def deformable_detr() -> nn.Module:
    """Its loss also has the parts of an intermediate layer of the decoder."""
    torch.manual_seed(0)
    backbone = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic", out_features=["stage1", "stage2"]
    )
    config = DeformableDetrConfig(
        use_timm_backbone=False, backbone=None, use_pretrained_backbone=False, backbone_config=backbone,
        num_queries=5, num_labels=3, d_model=32, encoder_layers=1, decoder_layers=2, encoder_ffn_dim=16,
        decoder_ffn_dim=16, encoder_attention_heads=2, decoder_attention_heads=2, dropout=0.0, num_feature_levels=2,
        encoder_n_points=2, decoder_n_points=2, auxiliary_loss=True, bbox_loss_coefficient=5, giou_loss_coefficient=2,
    )  # fmt: skip
    return DeformableDetrForObjectDetection(config)


def detr_items(count: int) -> list[dict[str, Any]]:
    torch.manual_seed(1)
    return [
        {
            "labels": {"class_labels": torch.arange(n), "boxes": torch.rand(n, 4) * 0.4 + 0.2},
            "pixel_values": torch.randn(3, 32, 32),
        }
        for n in (1 + index % 3 for index in range(count))
    ]


def detr_batch(items: list[Any]) -> dict[str, Any]:
    # Labels come first, because their first tensor is not as long as the batch.
    return {
        "labels": [item["labels"] for item in items],
        "pixel_values": torch.stack([item["pixel_values"] for item in items]),
    }


def mixtral(**changes: Any) -> nn.Module:
    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=20, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, num_local_experts=4, max_position_embeddings=32, router_aux_loss_coef=0.5,
        **{"output_router_logits": True, **changes},
    )  # fmt: skip
    return MixtralForCausalLM(config)


def mixtral_items(count: int) -> list[dict[str, Any]]:
    torch.manual_seed(1)
    return [{"input_ids": ids, "labels": ids} for ids in torch.randint(0, 20, (count, 8))]


def flava() -> nn.Module:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = FlavaConfig(
        image_config={**sizes, **_NO_DROPOUT, "image_size": 16, "patch_size": 8, "vocab_size": 12},
        text_config={**sizes, **_NO_DROPOUT, "vocab_size": 20, "max_position_embeddings": 16},
        multimodal_config={**sizes, **_NO_DROPOUT}, projection_dim=8, hidden_size=16, init_codebook=False,
    )  # fmt: skip
    return FlavaForPreTraining(config)


def flava_items(count: int) -> list[dict[str, Any]]:
    torch.manual_seed(1)
    return [
        {
            "input_ids": ids,
            "input_ids_masked": ids,
            "pixel_values": torch.randn(3, 16, 16),
            "bool_masked_pos": torch.tensor([[True, False], [False, True]]),
            "mlm_labels": ids,
            "mim_labels": torch.randint(0, 12, (2, 2)),
            "itm_labels": torch.tensor(index % 2),
            "return_loss": True,
        }
        for index, ids in enumerate(torch.randint(0, 20, (count, 6)))
    ]


def flava_batch(items: list[Any]) -> dict[str, Any]:
    names = [name for name in items[0] if name != "return_loss"]
    return {name: torch.stack([item[name] for item in items]) for name in names} | {"return_loss": True}


_DETR_PARTS = ("loss_ce", "loss_bbox", "loss_giou", "cardinality_error")
_DEFORMABLE_PARTS = (*_DETR_PARTS, *(f"{name}_0" for name in _DETR_PARTS))
_DETR_BUDGET = {"loss_dict/loss_ce": 1.0, "loss_dict/loss_bbox": 5.0, "loss_dict/loss_giou": 2.0}
_FLAVA_PARTS = ("itm", "global_contrastive", "mmm_image", "mmm_text")  # others are for text or images alone

CASES = {
    "wav2vec2": Case(
        wav2vec2,
        wav2vec2_items,
        {name: lambda out, name=name: out[name] for name in ("contrastive_loss", "diversity_loss")},
        {"contrastive_loss": 1.0, "diversity_loss": 0.1},
        {"label_names": ["sampled_negative_indices"]},
    ),
    "detr": Case(
        detr,
        detr_items,
        {f"loss_dict/{name}": lambda out, name=name: out.loss_dict[name] for name in _DETR_PARTS},
        _DETR_BUDGET,
        {"remove_unused_columns": False},
        detr_batch,
    ),
    "deformable_detr": Case(
        deformable_detr,
        detr_items,
        {f"loss_dict/{name}": lambda out, name=name: out.loss_dict[name] for name in _DEFORMABLE_PARTS},
        {**_DETR_BUDGET, **{f"{key}_0": weight for key, weight in _DETR_BUDGET.items()}},
        {"remove_unused_columns": False},
        detr_batch,
    ),
    "mixtral": Case(mixtral, mixtral_items, {"aux_loss": lambda out: out.aux_loss}, {}, {}),
    "flava": Case(
        flava,
        flava_items,
        {f"loss_info/{name}": lambda out, name=name: getattr(out.loss_info, name) for name in _FLAVA_PARTS},
        {f"loss_info/{name}": 1.0 for name in _FLAVA_PARTS},
        {},
        flava_batch,
    ),
}
