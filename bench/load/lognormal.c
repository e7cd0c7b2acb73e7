/* The distribution: see lognormal.h. The inverse of the normal distribution is PPND7 of M. J.
 * Wichura, Algorithm AS 241: The Percentage Points of the Normal Distribution, Applied Statistics
 * 37 (1988), without the part for the far tails. */
#include "bench/load/lognormal.h"

#include <math.h>

double normal_quantile(double share)
{
    double q = share - 0.5;
    if (fabs(q) <= 0.425) {
        double r = 0.180625 - q * q;
        double above = ((59.109374720 * r + 159.29113202) * r + 50.434271938) * r + 3.3871327179;
        double below = ((67.187563600 * r + 78.757757664) * r + 17.895169469) * r + 1;
        return q * above / below;
    }
    double r = sqrt(-log(q < 0 ? share : 1 - share)) - 1.6;
    double above = ((0.17023821103 * r + 1.3067284816) * r + 2.7568153900) * r + 1.4234372777;
    double below = (0.12021132975 * r + 0.73700164250) * r + 1;
    return q < 0 ? -above / below : above / below;
}

size_t lognormal_size(double median, double sigma, size_t max, uint32_t index, uint32_t count)
{
    double size = median * exp(sigma * normal_quantile(((double)index + 0.5) / count));
    return size < (double)max ? (size_t)(size + 0.5) : max;
}
