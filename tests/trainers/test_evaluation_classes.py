"""What training and evaluation must agree on."""

import main


def run(*argv):
    return main.main([str(a) for a in argv])


def test_classes_in_another_order_are_refused(tiny_config, write_config, capsys):
    changed = {"evaluator.dataloader.dataset.kwargs.classes": ["red", "green", "blue"]}
    assert run("-c", write_config(tiny_config, changed), "--device", "cpu") == 2
    said = capsys.readouterr().err
    assert "evaluator.dataloader.dataset.kwargs.classes" in said and "another order" in said


def test_the_reason_of_a_failed_run_is_in_its_log(tiny_config, write_config, tmp_path):
    changes = {"optimizer": {"type": "sgd", "kwargs": {"lr": 1e30}}, "trainer.kwargs.max_epochs": 3}
    assert run("-c", write_config(tiny_config, changes), "--device", "cpu") == 2
    assert "not finite" in (tmp_path / "runs" / "tiny" / "log.txt").read_text()


def test_a_conversion_to_synchronised_batch_norm_keeps_activations():
    """timm's, whose norms carry an activation: torch's own would drop it."""
    import timm
    import torch
    from timm.layers import convert_sync_batchnorm

    torch.manual_seed(0)
    model = timm.create_model("test_efficientnet", num_classes=3).eval()
    picture = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = model(picture)
        torch.testing.assert_close(convert_sync_batchnorm(model).eval()(picture), before)
