/** Shows what the link's token asks for, and completes it with the public access token that the link carries. */
const [tokenId, publicAccessToken] = location.hash.slice(1).split(".");
const element = (id) => document.getElementById(id);
const say = (text) => {
  element("message").textContent = text;
};

const explanations = {
  token_completion_conflict: "Somebody else has already answered.",
  token_expired: "The time for an answer is over.",
  token_cancelled: "The request was withdrawn.",
  token_scope_denied: "This link does not give the right to answer, or it was used already.",
};

async function show() {
  if (!tokenId || !publicAccessToken) return say("Open the link of a request; this address has none.");
  const response = await fetch(`/requests/${encodeURIComponent(tokenId)}`);
  const request = await response.json();
  if (!response.ok) return say(request.error);
  element("title").textContent = request.title ?? "Approval";
  element("details").textContent = request.details ?? "";
  if (request.status !== "pending") return say(`Nothing to decide: the request is ${request.status}.`);
  if (request.answerBefore)
    element("until").textContent = `Answer before ${new Date(request.answerBefore).toLocaleString()}.`;
  element("decision").hidden = false;
}

async function decide(approved) {
  const data = { approved, by: element("by").value, comment: element("comment").value };
  const response = await fetch(`/api/v1/tokens/${tokenId}/complete`, {
    method: "POST",
    headers: { authorization: `Bearer ${publicAccessToken}`, "content-type": "application/json" },
    body: JSON.stringify({ data }),
  });
  const answer = await response.json();
  if (!response.ok) return say(explanations[answer.code] ?? answer.error);
  element("decision").hidden = true;
  say(approved ? "Approved. The run goes on." : "Rejected. The run has been told.");
}

element("decision").addEventListener("submit", (event) => {
  event.preventDefault();
  decide(event.submitter?.value === "approve").catch(() => say("That did not work; try again."));
});
show().catch(() => say("The request could not be read; reload the page."));
