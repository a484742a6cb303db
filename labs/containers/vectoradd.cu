// A kernel that adds two vectors, and a sentence on how it went. Chapter 4 runs it in containers.
//   vectoradd [SECONDS]   once, or again and again for so long
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <cuda_runtime.h>

__global__ void add(const float *a, const float *b, float *c, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) c[i] = a[i] + b[i];
}

int main(int count, char **arguments) {
  const int n = 50000;
  const time_t end = time(nullptr) + (count > 1 ? atoi(arguments[1]) : 0);
  float *v[3];
  cudaError_t status = cudaSuccess;
  for (float *&each : v)
    if (status == cudaSuccess) status = cudaMallocHost(&each, n * sizeof(float));
  if (status == cudaSuccess)
    for (int i = 0; i < n; ++i) v[0][i] = i, v[1][i] = 2 * i;
  while (status == cudaSuccess) {
    add<<<(n + 255) / 256, 256>>>(v[0], v[1], v[2], n);
    status = cudaGetLastError();
    if (status == cudaSuccess) status = cudaDeviceSynchronize();
    if (time(nullptr) >= end) break;
  }
  if (status != cudaSuccess) {
    std::printf("CUDA error %d: %s\n", int(status), cudaGetErrorString(status));
    return 1;
  }
  for (int i = 0; i < n; ++i)
    if (v[2][i] != 3.0f * i) {
      std::printf("wrong: element %d is %g\n", i, v[2][i]);
      return 1;
    }
  std::printf("%d sums are right\n", n);
}
