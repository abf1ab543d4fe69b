/** Fits health indices: weighted sums of sensors that follow the time to failure better than any one sensor does. */
import type { Matrix } from "./matrix.ts";

/** Added to the diagonal, per row: shrinks weights of sensors that tell the same. */
const RIDGE_PER_ROW = 0.003;

/**
 * Ridge regression of `target` on the given columns over the given rows: minimises the squared error plus the ridge times the squared
 * weights. Returns one weight a column; the intercept is left out.
 */
export function ridgeWeights(matrix: Matrix, columns: readonly number[], rows: Int32Array, target: Float64Array): number[] {
  const width = columns.length;
  const mean = new Float64Array(width + 1);
  for (const row of rows) {
    for (let i = 0; i < width; i++) {
      mean[i] = (mean[i] as number) + (matrix.values[row * matrix.columns + (columns[i] as number)] as number);
    }
    mean[width] = (mean[width] as number) + (target[row] as number);
  }
  for (let i = 0; i <= width; i++) mean[i] = (mean[i] as number) / rows.length;
  const products = new Float64Array(width * width);
  const right = new Float64Array(width);
  const centred = new Float64Array(width);
  for (const row of rows) {
    const wanted = (target[row] as number) - (mean[width] as number);
    for (let i = 0; i < width; i++) {
      centred[i] = (matrix.values[row * matrix.columns + (columns[i] as number)] as number) - (mean[i] as number);
    }
    for (let i = 0; i < width; i++) {
      const one = centred[i] as number;
      right[i] = (right[i] as number) + one * wanted;
      for (let j = 0; j <= i; j++) products[i * width + j] = (products[i * width + j] as number) + one * (centred[j] as number);
    }
  }
  for (let i = 0; i < width; i++) products[i * width + i] = (products[i * width + i] as number) + RIDGE_PER_ROW * rows.length;
  return solve(products, right);
}

/** Solves A x = b by Cholesky's decomposition; A is positive definite, its lower triangle given; both are overwritten. */
function solve(a: Float64Array, b: Float64Array): number[] {
  const n = b.length;
  const at = (i: number, j: number) => a[i * n + j] as number;
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = at(i, j);
      for (let k = 0; k < j; k++) sum -= at(i, k) * at(j, k);
      a[i * n + j] = i === j ? Math.sqrt(Math.max(sum, 1e-12)) : sum / at(j, j);
    }
  }
  for (let i = 0; i < n; i++) {
    let sum = b[i] as number;
    for (let k = 0; k < i; k++) sum -= at(i, k) * (b[k] as number);
    b[i] = sum / at(i, i);
  }
  for (let i = n - 1; i >= 0; i--) {
    let sum = b[i] as number;
    for (let k = i + 1; k < n; k++) sum -= at(k, i) * (b[k] as number);
    b[i] = sum / at(i, i);
  }
  return Array.from(b);
}
