"""A sample model card."""

from datetime import UTC, datetime

from phi3_ui.store.registry.cards import ModelCard, ModelEntry, RunSummary

WHEN = datetime(2024, 5, 17, 9, 30, tzinfo=UTC)
ENTRY = ModelEntry(
    name="phi-3-mini-4k",
    model_id="m-1",
    uri="models:/m-1",
    contract="prompt",
    flavor="pyfunc",
    engine="onnxruntime-genai",
    created=WHEN,
    size_bytes=2_723_400_000,
    run_id="r-1",
    preset="phi-3-mini-4k",
    tracking_uri="sqlite:///mlflow.db",
)
RUN = RunSummary("r-1", "calm-owl", "phi", "FINISHED", WHEN, {"precision": "int4"}, {"loss": 0.25}, {"team": "nlp"})
CARD = ModelCard(ENTRY, "Phi 3 Mini", "mit", 4096, {"inputs": ("prompt: string",)}, RUN)
