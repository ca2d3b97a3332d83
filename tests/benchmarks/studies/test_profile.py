"""A step's time by kind of operation."""

from benchmarks.studies import profile

HLO = """\
%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %plus = f32[] add(%a, %b)
}

%summing (p: f32[4,2]) -> f32[2] {
  %p = f32[4,2]{1,0} parameter(0)
  %zero = f32[] constant(0)
  %square = f32[4,2]{1,0} multiply(%p, %p)
  ROOT %reduce.1 = f32[2]{0} reduce(%square, %zero), dimensions={0}, to_apply=%add
}

%moving (p.1: f32[4,2]) -> f32[6,2] {
  %p.1 = f32[4,2]{1,0} parameter(0)
  %zero.1 = f32[] constant(0)
  ROOT %padded = f32[6,2]{1,0} pad(%p.1, %zero.1), padding=1_1x0_0
}

%multiplying (p.2: f32[4,2], p.3: f32[2,2]) -> f32[4,2] {
  %p.2 = f32[4,2]{1,0} parameter(0)
  %p.3 = f32[2,2]{1,0} parameter(1)
  %product = f32[4,2]{1,0} dot(%p.2, %p.3), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  ROOT %shifted = f32[4,2]{1,0} add(%product, %product)
}

%convolving (p.4: f32[4,2], p.5: f32[2,2]) -> f32[4,2] {
  %p.4 = f32[4,2]{1,0} parameter(0)
  %p.5 = f32[2,2]{1,0} parameter(1)
  %inner = f32[4,2]{1,0} convolution(%p.4, %p.5)
  ROOT %doubled = f32[4,2]{1,0} add(%inner, %inner)
}

ENTRY %main (x: f32[4,2], w: f32[2,2]) -> (f32[2], f32[6,2]) {
  %x = f32[4,2]{1,0} parameter(0)
  %w = f32[2,2]{1,0} parameter(1)
  %ynn_fusion = f32[4,2]{1,0} fusion(%x, %w), kind=kCustom, calls=%multiplying, metadata={op_name="dot"}
  %sum_fusion = f32[2]{0} fusion(%ynn_fusion), kind=kLoop, calls=%summing
  %pad_fusion = f32[6,2]{1,0} fusion(%x), kind=kLoop, calls=%moving
  %tanh.3 = f32[4,2]{1,0} tanh(%x)
  %conv = f32[4,2]{1,0} convolution(%x, %w)
  %conv_fusion = f32[4,2]{1,0} fusion(%x, %w), kind=kOutput, calls=%convolving
  %foreign = f32[4,2]{1,0} custom-call(%x, %w), custom_call_target="elsewhere"
  %while.5 = (f32[4,2]{1,0}, pred[]) while(%pair), condition=%c, body=%b
  ROOT %out = (f32[2]{0}, f32[6,2]{1,0}) tuple(%sum_fusion, %pad_fusion)
}
"""


class TestProfile:
    def test_operations_are_told_apart_by_what_they_compute(self):
        found = profile.kinds(HLO)
        assert found["ynn_fusion"] == profile.PRODUCTS
        assert found["sum_fusion"] == profile.SUMS
        assert found["pad_fusion"] == profile.COPIES
        assert found["tanh.3"] == profile.ELEMENTWISE
        untraced = {"conv", "conv_fusion", "foreign"}
        assert not {*untraced, "while.5", "x", "out"} & set(found), "their time is that of others, or unknown"

    def test_operations_that_run_at_once_share_the_time(self):
        """Four seconds, in the middle two of which both run: the parts must not add up to six."""
        long = {"ph": "X", "name": "a", "ts": 0.0, "dur": 4e6}
        found = profile.totals([long, {"ph": "X", "name": "b", "ts": 1e6, "dur": 2e6}], {"a": "sums", "b": "copies"})
        assert {kind: seconds for kind, seconds in found.items() if seconds} == {"sums": 3.0, "copies": 1.0}

    def test_what_no_kind_has_is_left_for_convolutions(self):
        parts = dict.fromkeys(profile.KINDS, 0.001)
        found = {"subjects": [{"title": "LeNet-5", "seconds": 0.01, "parts": parts}]}
        row = profile.markdown(found).splitlines()[-1]
        assert row == "| LeNet-5 | 10.0 | 1.0 | 1.0 | 1.0 | 1.0 | 6.0 |"
