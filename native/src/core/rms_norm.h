// Checks that rms_norm, gated_rms_norm and their gradients share.
#pragma once

#include "core/operation.h"

#include <cmath>

namespace ssm {

template <class Params>
class RmsNormCall : public Call<Params> {
  protected:
    using Call<Params>::params;
    using Call<Params>::plan;
    RmsNormCall(const ssm_context& context, Purpose purpose) : Call<Params>(context, purpose) {}

    void read_type(DataType& type, const Tensor& tensor) {
        expect_type(tensor, {DataType::float32, DataType::float64, DataType::float16, DataType::bfloat16});
        type = tensor.type();
    }
    // The type itself or its state type.
    static void expect_type_or_state(const Tensor& tensor, DataType type) {
        if (type == state_type(type))
            expect_type(tensor, type);
        else
            expect_type(tensor, {type, state_type(type)});
    }

    void read_eps(double eps) {
        if (!(eps >= 0) || std::isinf(eps))
            fail_argument("eps", "a number of 0 or more", std::to_string(eps));
        params.eps = eps;
    }

    // Sizes, from the first tensor. group_size: 0 is all of a row.
    void read_shape(const Tensor& x, int64_t group_size = 0) {
        if (x.rank < 1 || x.rank > RowShape::axes + 1)
            fail_argument(x.name, "rank 1 to 4", "shape " + text_of_shape(x.shape, x.rank));
        RowShape& shape = params.shape;
        const int leading = x.rank - 1;
        for (int i = 0; i < leading; ++i)
            shape.extents[RowShape::axes - leading + i] = x.shape[i];
        shape.width = x.shape[leading];
        shape.group = group_size ? group_size : shape.width;
        if (shape.group < 0 || (shape.width > 0 && shape.width % shape.group != 0)) {
            fail_argument("group_size", "0 or a divisor of D = " + std::to_string(shape.width), std::to_string(group_size));
        }
    }
    // The shape of x with `count` in place of its last size, or without the last one where that is negative.
    static void expect_rows(const Tensor& tensor, const Tensor& x, int64_t count) {
        int64_t shape[max_rank];
        std::copy_n(x.shape, x.rank, shape);
        shape[x.rank - 1] = count;
        expect_shape(tensor, shape, count < 0 ? x.rank - 1 : x.rank);
    }

    void place(RowTensor& target, const Tensor& tensor) {
        const int64_t* strides = plan.add_strided(target.data, tensor, true);
        if (!strides)
            return;
        std::copy_n(strides, tensor.rank - 1, target.strides + RowShape::axes - (tensor.rank - 1));
        placed[placed_count++] = &target;
    }
    // Axes that run on in every tensor become one, the last; once all are placed.
    void merge_axes() {
        int64_t* const extents = params.shape.extents;
        int at = RowShape::axes;
        for (int axis = RowShape::axes - 1; axis >= 0; --axis) {
            const int64_t extent = extents[axis];
            if (extent == 1)
                continue;
            const bool runs_on =
                at < RowShape::axes && std::all_of(placed, placed + placed_count, [&](const RowTensor* tensor) {
                    return tensor->strides[axis] == tensor->strides[at] * extents[at];
                });
            if (runs_on) {
                extents[at] *= extent;
                continue;
            }
            --at;
            extents[at] = extent;
            for (int i = 0; i < placed_count; ++i)
                placed[i]->strides[at] = placed[i]->strides[axis];
        }
        std::fill_n(extents, at, 1);
    }

  private:
    RowTensor* placed[7];
    int placed_count = 0;
};

} // namespace ssm
