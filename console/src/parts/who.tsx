import { useQuery } from "@tanstack/react-query";
import { type Standing, standing } from "../api/client";

/** useStanding is who looks, as the frame of the page has asked. */
export function useStanding(): Standing | undefined {
	return useQuery({ queryKey: ["standing"], queryFn: standing, refetchInterval: 60_000 }).data;
}
