// What of a layer works on matrices: a level of the staple network (eqs 3 to 8 in complex.py) for the links that the next
// level reads, traces of plaquettes, and the projection to SU(3).
//
// Rows are [link][channel][18][batch], components real then imaginary, each row by row; batch is a multiple of the vector's
// width W, so that one vector holds the same component of W configurations. A link's staples and their mixing stay in the
// cache nearest to the processor. Whole fields are [18][link][batch].

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

namespace {

template <typename T, int W>
struct Matrix {
    typedef T Vector __attribute__((vector_size(W * sizeof(T))));
    Vector re[3][3], im[3][3];

    void load(const T *from, int64_t stride) {
        for (int e = 0; e < 9; ++e) {
            std::memcpy(&re[e / 3][e % 3], from + e * stride, sizeof(Vector));
            std::memcpy(&im[e / 3][e % 3], from + (9 + e) * stride, sizeof(Vector));
        }
    }
};

enum class Adjoint { none, left, right };

template <Adjoint adjoint, typename T, int W>
inline __attribute__((always_inline)) void multiply(const Matrix<T, W> &a, const Matrix<T, W> &b, Matrix<T, W> &out) {
    constexpr bool left = adjoint == Adjoint::left, right = adjoint == Adjoint::right;
    constexpr T sign_a = left ? -1 : 1, sign_b = right ? -1 : 1;
    for (int i = 0; i < 3; ++i)
        for (int j = 0; j < 3; ++j) {
            typename Matrix<T, W>::Vector re = {}, im = {};
            for (int k = 0; k < 3; ++k) {
                const auto &ar = left ? a.re[k][i] : a.re[i][k], &ai = left ? a.im[k][i] : a.im[i][k];
                const auto &br = right ? b.re[j][k] : b.re[k][j], &bi = right ? b.im[j][k] : b.im[k][j];
                re += ar * br - sign_a * sign_b * (ai * bi);
                im += sign_b * (ar * bi) + sign_a * (ai * br);
            }
            out.re[i][j] = re;
            out.im[i][j] = im;
        }
}

template <typename T, int W>
inline const typename Matrix<T, W>::Vector &component(const Matrix<T, W> &m, int e) {
    return e < 9 ? m.re[e / 3][e % 3] : m.im[(e - 9) / 3][(e - 9) % 3];
}

// Write N channels of one link from its augmented channels.
template <int N, typename T, int W>
inline void mix(const std::vector<Matrix<T, W>> &augmented, const T *mixing, T *out, int64_t batch) {
    const int inputs = static_cast<int>(augmented.size());
    for (int e = 0; e < 18; ++e) {
        typename Matrix<T, W>::Vector sums[N] = {};
        for (int l = 0; l < inputs; ++l) {
            const auto &x = component(augmented[l], e);
            for (int n = 0; n < N; ++n) sums[n] += mixing[n * inputs + l] * x;
        }
        for (int n = 0; n < N; ++n) std::memcpy(out + (n * 18 + e) * batch, &sums[n], sizeof(sums[n]));
    }
}

template <typename T, int W>
void level(const T *s, T *out, const int32_t *own, const int32_t *upper, const int32_t *lower, const T *mixing, int64_t links,
           int64_t inside, int64_t outside, int64_t batch, int threads) {
    const int64_t row = inside * 18 * batch, made = outside * 18 * batch;
#pragma omp parallel num_threads(threads)
    {
        std::vector<Matrix<T, W>> augmented(7 * inside);
        Matrix<T, W> first, middle, last, corner;
#pragma omp for collapse(2)
        for (int64_t q = 0; q < links; ++q)
            for (int64_t b = 0; b < batch; b += W) {
                for (int64_t c = 0; c < inside; ++c) {
                    const T *channel = s + c * 18 * batch + b;
                    augmented[c].load(channel + own[q] * row, batch);
                    for (int64_t r = 0; r < 3; ++r) {
                        const int32_t *at = upper + 3 * r * links + q;
                        first.load(channel + at[0] * row, batch);
                        middle.load(channel + at[links] * row, batch);
                        last.load(channel + at[2 * links] * row, batch);
                        multiply<Adjoint::none>(first, middle, corner);
                        multiply<Adjoint::right>(corner, last, augmented[(1 + r) * inside + c]);
                        at = lower + 3 * r * links + q;
                        first.load(channel + at[0] * row, batch);
                        middle.load(channel + at[links] * row, batch);
                        last.load(channel + at[2 * links] * row, batch);
                        multiply<Adjoint::none>(middle, last, corner);
                        multiply<Adjoint::left>(first, corner, augmented[(4 + r) * inside + c]);
                    }
                }
                int64_t n = 0;
                for (; n + 8 <= outside; n += 8) mix<8>(augmented, mixing + n * 7 * inside, out + q * made + n * 18 * batch + b, batch);
                for (; n < outside; ++n) mix<1>(augmented, mixing + n * 7 * inside, out + q * made + n * 18 * batch + b, batch);
            }
    }
}

// Re and Im tr P of plaquettes, out [2][p + 1][batch]; the last is left alone.
template <typename T, int W>
void traces(const T *links, T *out, const int32_t *corners, int64_t stride, int64_t plaquettes, int64_t batch, int threads) {
    typedef typename Matrix<T, W>::Vector Vector;
#pragma omp parallel for num_threads(threads)
    for (int64_t q = 0; q < plaquettes; ++q) {
        Matrix<T, W> a, b, one, other;
        for (int64_t v = 0; v < batch; v += W) {
            a.load(links + corners[q] * batch + v, stride);
            b.load(links + corners[plaquettes + q] * batch + v, stride);
            multiply<Adjoint::none>(a, b, one);
            a.load(links + corners[2 * plaquettes + q] * batch + v, stride);
            b.load(links + corners[3 * plaquettes + q] * batch + v, stride);
            multiply<Adjoint::none>(a, b, other);
            Vector re = {}, im = {};
            for (int i = 0; i < 3; ++i)
                for (int j = 0; j < 3; ++j) {
                    re += one.re[i][j] * other.re[i][j] + one.im[i][j] * other.im[i][j];
                    im += one.im[i][j] * other.re[i][j] - one.re[i][j] * other.im[i][j];
                }
            std::memcpy(out + q * batch + v, &re, sizeof(Vector));
            std::memcpy(out + (plaquettes + 1 + q) * batch + v, &im, sizeof(Vector));
        }
    }
}

template <typename T, int W>
inline void find_cofactors(const Matrix<T, W> &x, Matrix<T, W> &c) {
    for (int i = 0; i < 3; ++i)
        for (int j = 0; j < 3; ++j) {
            const int p = (i + 1) % 3, q = (i + 2) % 3, u = (j + 1) % 3, w = (j + 2) % 3;
            c.re[i][j] = x.re[p][u] * x.re[q][w] - x.im[p][u] * x.im[q][w] - x.re[p][w] * x.re[q][u] + x.im[p][w] * x.im[q][u];
            c.im[i][j] = x.re[p][u] * x.im[q][w] + x.im[p][u] * x.re[q][w] - x.re[p][w] * x.im[q][u] - x.im[p][w] * x.re[q][u];
        }
}

// P_SU(3) by Newton's iteration, as projected in pairs.py; from and to are [18][n][batch].
template <typename T, int W>
void project(const T *from, T *to, int64_t n, int64_t batch, int64_t steps, int threads) {
    typedef typename Matrix<T, W>::Vector Vector;
    const int64_t stride = n * batch;
#pragma omp parallel for num_threads(threads)
    for (int64_t q = 0; q < stride; q += W) {
        Matrix<T, W> x, c;
        x.load(from + q, stride);
        for (int64_t step = 0;; ++step) {
            find_cofactors(x, c);
            Vector re = {}, im = {};
            for (int j = 0; j < 3; ++j) {
                re += x.re[0][j] * c.re[0][j] - x.im[0][j] * c.im[0][j];
                im += x.re[0][j] * c.im[0][j] + x.im[0][j] * c.re[0][j];
            }
            if (step == steps) {
                Vector cosine, sine;
                for (int v = 0; v < W; ++v) {
                    const T third = std::atan2(im[v], re[v]) / 3;
                    cosine[v] = std::cos(third);
                    sine[v] = std::sin(third);
                }
                for (int e = 0; e < 9; ++e) {
                    const Vector &a = x.re[e / 3][e % 3], &b = x.im[e / 3][e % 3];
                    const Vector turned_re = a * cosine + b * sine, turned_im = b * cosine - a * sine;
                    std::memcpy(to + e * stride + q, &turned_re, sizeof(Vector));
                    std::memcpy(to + (9 + e) * stride + q, &turned_im, sizeof(Vector));
                }
                break;
            }
            const Vector squared = re * re + im * im + std::numeric_limits<T>::min();
            Vector g;
            for (int v = 0; v < W; ++v) g[v] = 1 / std::sqrt(std::cbrt(squared[v]));
            const Vector h_re = re / (2 * g * squared), h_im = im / (2 * g * squared);
            for (int i = 0; i < 3; ++i)
                for (int j = 0; j < 3; ++j) {
                    x.re[i][j] = g * x.re[i][j] / 2 + h_re * c.re[i][j] + h_im * c.im[i][j];
                    x.im[i][j] = g * x.im[i][j] / 2 + h_im * c.re[i][j] - h_re * c.im[i][j];
                }
        }
    }
}

}  // namespace

// Each function for one type and width.
#define KERNELS(suffix, T, W)                                                                                                   \
    extern "C" void level_##suffix(const T *s, T *out, const int32_t *own, const int32_t *upper, const int32_t *lower,          \
                                   const T *mixing, int64_t links, int64_t inside, int64_t outside, int64_t batch,              \
                                   int threads) {                                                                               \
        level<T, W>(s, out, own, upper, lower, mixing, links, inside, outside, batch, threads);                                 \
    }                                                                                                                           \
    extern "C" void traces_##suffix(const T *links, T *out, const int32_t *corners, int64_t stride, int64_t plaquettes,         \
                                    int64_t batch, int threads) {                                                               \
        traces<T, W>(links, out, corners, stride, plaquettes, batch, threads);                                                  \
    }                                                                                                                           \
    extern "C" void project_##suffix(const T *from, T *to, int64_t n, int64_t batch, int64_t steps, int threads) {                  \
        project<T, W>(from, to, n, batch, steps, threads);                                                                      \
    }

KERNELS(float_4, float, 4)
KERNELS(float_16, float, 16)
KERNELS(double_4, double, 4)
KERNELS(double_8, double, 8)
