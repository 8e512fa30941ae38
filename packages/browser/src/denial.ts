/** What a refused request can be helped by; a number: the same again, after so many ms. */
export type Help = "refresh" | "ask" | number | undefined;

/** Longest that a request waits for `Retry-After` (ms); what should wait longer is the caller's to decide. */
const LONGEST_WAIT = 5_000;

/**
 * Says what helps against *response*.
 *
 * - `refresh`: a fresh access token (`expired`, `stale_claims`, `unknown_key`).
 * - `ask`: the service says that only a login would help. Whether the session is over is for the authority to say, so it is asked; a service that is
 *   configured wrongly signs nobody out. The same for a 401 without a reason.
 * - a number: the same again, after so many ms.
 * - undefined: an answer, or a refusal that none of these help (a missing role, a login that is too long ago ...).
 */
export async function helpFor(response: Response): Promise<Help> {
  const { status, headers } = response;
  if (status < 400) return undefined;
  const problem = await readProblem(response.clone());
  const code = problem.code ?? headers.get("x-auth-cause") ?? "";
  const wait = Number(headers.get("retry-after") ?? 1) * 1000;
  if (problem.next === "retry" || code === "verifier_stale") {
    return wait <= LONGEST_WAIT ? wait : undefined;
  }
  if (status !== 401 || problem.next === null || code === "reauthentication_required") {
    return undefined;
  }
  const isOld = problem.next === "refresh" || /expired|stale_claims|unknown_key/.test(code);
  return isOld ? "refresh" : "ask";
}

export interface Problem {
  readonly code?: string;
  readonly next?: string | null;
}

/** Reads a problem document (RFC 9457); what is none, or cannot be read, says nothing. */
export async function readProblem(response: Response): Promise<Problem> {
  if (!response.headers.get("content-type")?.includes("problem+json")) return {};
  return (await response.json().catch(() => null)) ?? {};
}
